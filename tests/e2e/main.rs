//! Tacet end to end: the release build in a laboratory of network namespaces.
