//! The proof: simulation, end to end, faults, soak.
