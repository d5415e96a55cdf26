"""What people do, as plain functions and generators that yield records. Nothing here prints."""
