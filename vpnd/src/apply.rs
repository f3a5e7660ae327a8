//! What a roster asks of the data path and of the interface.
