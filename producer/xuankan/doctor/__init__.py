"""`xuankan doctor`: checks a deployment and suggests fixes."""
