//! What read-outs share: tables, and colours where a terminal wants them.
