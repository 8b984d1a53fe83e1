"""`xuankan doctor`: looks at a deployment and says what to mend."""
