//! What a head is for.

use std::fmt;

/// What a head predicts, and so what it needs to know of an image to be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The pixels of removed patches; it needs nothing but the image.
    Reconstruct,
    /// The class of an image; it needs `Target::class`.
    Classify {
        /// Classes that it tells apart.
        classes: usize,
    },
    /// The class of every pixel; it needs `Target::semantic`.
    Segment {
        /// Classes that it tells apart.
        classes: usize,
    },
    /// Objects with their boxes; it needs `Target::instances`.
    Detect {
        /// Classes that it tells apart.
        classes: usize,
    },
    /// Anything else: what it predicts are arrays, which evaluators know by name.
    Other,
}

impl Task {
    /// Which task it is.
    pub fn kind(self) -> TaskKind {
        match self {
            Self::Reconstruct => TaskKind::Reconstruct,
            Self::Classify { .. } => TaskKind::Classify,
            Self::Segment { .. } => TaskKind::Segment,
            Self::Detect { .. } => TaskKind::Detect,
            Self::Other => TaskKind::Other,
        }
    }

    /// How many classes it tells apart, if it does: as many as the datasets have.
    pub fn classes(self) -> Option<usize> {
        match self {
            Self::Classify { classes } | Self::Segment { classes } | Self::Detect { classes } => {
                Some(classes)
            }
            Self::Reconstruct | Self::Other => None,
        }
    }
}

/// A [`Task`] without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// See [`Task::Reconstruct`].
    Reconstruct,
    /// See [`Task::Classify`].
    Classify,
    /// See [`Task::Segment`].
    Segment,
    /// See [`Task::Detect`].
    Detect,
    /// See [`Task::Other`].
    Other,
}

impl fmt::Display for TaskKind {
    /// What a head of this task predicts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reconstruct => "pixels of removed patches",
            Self::Classify => "classes of images",
            Self::Segment => "classes of pixels",
            Self::Detect => "objects",
            Self::Other => "arrays of its own",
        })
    }
}
