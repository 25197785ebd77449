"""What people are asked, told and say: by chat, a browser, a terminal."""
