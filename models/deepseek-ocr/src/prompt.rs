//! The questions that the model was trained to answer.
