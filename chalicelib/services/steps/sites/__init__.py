"""The steps between sites: assess, provision, move names, watch health, and go back."""
