//! What containerd's runtime options give: a path to a file like the operator's, or its very text.

use std::path::PathBuf;

/// The part of `runtimeoptions.v1.Options` that counts. Its `type_url` names what the operator calls his options, and
/// says nothing to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    /// `config_path`: it wins over a body.
    Path(PathBuf),
    /// `config_body`.
    Body(String),
}
