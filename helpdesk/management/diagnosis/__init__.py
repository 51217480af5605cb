"""`manage.py doctor`: every part of the deployment, checked and explained."""
