"""dlib's file format and its networks, in torch."""
