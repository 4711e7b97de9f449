//! What is normal here: peers, metadata callers, shells.
