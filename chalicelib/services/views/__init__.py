"""What people and programs see, a module a subject: plain JSON, made from what is stored."""
