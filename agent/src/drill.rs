//! A live breach in namespaces of its own, through the running pipeline.
