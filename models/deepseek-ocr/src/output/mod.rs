//! What the model wrote, as blocks, Markdown, tables, formulas and pictures. Never fails: what
//! cannot be understood is kept as text and flagged.
