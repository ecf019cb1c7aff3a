//! The built `nv` command, run as an operator runs it.
