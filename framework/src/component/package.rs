//! Where components come from.

use std::borrow::Cow;
use std::fmt;

/// A package with components: that of the registry, or a plug-in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Package {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its version.
    pub version: Cow<'static, str>,
    /// The commit that was checked out when it was built, if its build script calls `convmae_commit::emit` and it lay in a git
    /// repository.
    pub commit: Option<Cow<'static, str>>,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.commit {
            Some(commit) => write!(f, "{} {} ({commit})", self.name, self.version),
            None => write!(f, "{} {} (of no known commit)", self.name, self.version),
        }
    }
}

/// The [`Package`](crate::component::Package) that this stands in.
#[doc(hidden)]
#[macro_export]
macro_rules! package {
    () => {
        $crate::component::Package {
            name: ::std::borrow::Cow::Borrowed(env!("CARGO_PKG_NAME")),
            version: ::std::borrow::Cow::Borrowed(env!("CARGO_PKG_VERSION")),
            commit: match option_env!("PACKAGE_COMMIT") {
                Some(commit) => Some(::std::borrow::Cow::Borrowed(commit)),
                None => None,
            },
        }
    };
}
