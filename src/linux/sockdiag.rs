//! sockdiag
