//! What leaves the console for other boot servers and media.
