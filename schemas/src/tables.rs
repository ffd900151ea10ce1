//! Arrow schemas of the history tables, and the rows as record batches.
