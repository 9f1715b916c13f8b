"""The models at work on pictures from outside: finding faces in them."""
