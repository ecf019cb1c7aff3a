//! What fuzzing has found, made smaller and given a name.
