//! What one request may make the codecs hold, whatever the size of its body.

/// Bytes of the name of a tensor or parameter, and of a request's id: ten times what exporters write.
pub const NAME_BYTES_MAX: usize = 1024;

/// Inputs of a request: the largest models found, tabular ones with one input per column, have a few hundred.
pub const INPUTS_MAX: usize = 1024;

/// Outputs of a request or response.
pub const OUTPUTS_MAX: usize = 1024;

/// Entries of one `parameters` object: duplicates are looked for by comparing each with each.
pub const PARAMETERS_MAX: usize = 64;

/// Dimensions of a tensor: the most that NumPy 1 has.
pub const RANK_MAX: usize = 32;

/// Depth of values that are skipped over: each level costs a stack frame.
pub const DEPTH_MAX: usize = 64;

/// Numbers of all tensors written as JSON in one request: two bytes of text become at most eight of tensor, so 128 MiB.
pub const JSON_NUMBERS_MAX: usize = 1 << 24;

/// Elements of all `BYTES` tensors of one request: each costs a handle of 32 bytes, so 64 MiB.
pub const STRINGS_MAX: usize = 1 << 21;
