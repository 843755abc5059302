"""dlib's convolutional face detector in torch."""
