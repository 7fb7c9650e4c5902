"""Pictures and boxes without torch: decoding, letterbox, non-maximum suppression, drawing."""
