//! What a head is for.

use std::fmt;

use image::{GrayImage, Luma};

use super::ImageShape;
use crate::data::{IGNORED, Mask, Target};

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

    /// Adds to the target of an example image, number `index` of a batch, what the task needs. What is there
    /// of another head of the task stays, with no class beyond those of both.
    pub fn example(self, index: usize, image: ImageShape, target: &mut Target) {
        let last = self.classes().unwrap_or(1).max(1) - 1;
        match self {
            Self::Reconstruct | Self::Other => {}
            Self::Classify { .. } => {
                target.class = Some(target.class.unwrap_or(index % (last + 1)).min(last));
            }
            Self::Segment { .. } => {
                let last = last.min(usize::from(IGNORED) - 1) as u8;
                let label = |x: u32, y: u32| Luma([((x + y) % (u32::from(last) + 1)) as u8]);
                let stripes = || GrayImage::from_fn(image.width as u32, image.height as u32, label);
                let map = target.semantic.get_or_insert_with(stripes);
                map.pixels_mut().for_each(|label| label.0[0] = label.0[0].min(last));
            }
            Self::Detect { .. } => {
                let objects = &mut target.instances;
                if objects.is_empty() {
                    let [right, bottom] = [image.width, image.height].map(|side| side as f64 / 2.0);
                    let corners = vec![[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]];
                    let class = (index % (last + 1)) as u32;
                    objects.annotate(
                        class,
                        [0.0, 0.0, right as f32, bottom as f32],
                        Mask::Polygons(vec![corners]),
                    );
                }
                objects.classes.iter_mut().for_each(|class| *class = (*class).min(last as u32));
            }
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

impl TaskKind {
    /// The largest class that a target has for the task, if it has one.
    pub fn largest_class(self, target: &Target) -> Option<usize> {
        match self {
            Self::Classify => target.class,
            Self::Segment => {
                let labels = target.semantic.as_ref()?.as_raw().iter().filter(|label| **label != IGNORED);
                labels.max().map(|label| usize::from(*label))
            }
            Self::Detect => target.instances.classes.iter().max().map(|class| *class as usize),
            Self::Reconstruct | Self::Other => None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: ImageShape = ImageShape { channels: 3, height: 4, width: 6 };

    fn example(index: usize, tasks: &[Task]) -> Target {
        let mut target = Target::default();
        tasks.iter().for_each(|task| task.example(index, IMAGE, &mut target));
        target
    }

    #[test]
    fn examples_have_the_target_of_their_task_and_nothing_else() {
        let bare = example(5, &[Task::Reconstruct, Task::Other]);
        assert!(bare.class.is_none() && bare.semantic.is_none() && bare.instances.is_empty());
        assert_eq!(example(5, &[Task::Classify { classes: 3 }]).class, Some(2));
        let map = example(5, &[Task::Segment { classes: 3 }]).semantic.unwrap();
        assert_eq!((map.dimensions(), &map.as_raw()[..6]), ((6, 4), &[0, 1, 2, 0, 1, 2][..]));
        let objects = example(5, &[Task::Detect { classes: 4 }]).instances;
        assert_eq!(
            (objects.classes.as_slice(), objects.boxes.as_slice()),
            (&[1][..], &[[0.0, 0.0, 3.0, 2.0]][..])
        );
        assert_eq!(objects.masks[0].bounds(), Some(objects.boxes[0]));
    }

    #[test]
    fn the_largest_class_is_that_of_the_task_and_never_what_is_ignored() {
        let mut target = example(5, &[Task::Classify { classes: 7 }, Task::Segment { classes: 3 }]);
        target.semantic.iter_mut().for_each(|map| map.put_pixel(0, 0, Luma([IGNORED])));
        let largest = [TaskKind::Classify, TaskKind::Segment, TaskKind::Detect, TaskKind::Reconstruct];
        let largest = largest.map(|task| task.largest_class(&target));
        assert_eq!(largest, [Some(5), Some(2), None, None]);
        target.semantic = Some(GrayImage::from_pixel(2, 2, Luma([IGNORED])));
        assert_eq!(TaskKind::Segment.largest_class(&target), None);
    }

    #[test]
    fn two_heads_of_a_task_know_every_class_of_an_example() {
        for few_first in [false, true] {
            let both = |tasks: [Task; 2]| example(7, &if few_first { tasks } else { [tasks[1], tasks[0]] });
            let class = both([Task::Classify { classes: 2 }, Task::Classify { classes: 9 }]).class;
            assert!(class.is_some_and(|class| class < 2));
            let map = both([Task::Segment { classes: 2 }, Task::Segment { classes: 300 }]).semantic.unwrap();
            assert!(map.as_raw().iter().all(|&label| label < 2));
            let objects = both([Task::Detect { classes: 2 }, Task::Detect { classes: 9 }]).instances;
            assert!(objects.len() == 1 && objects.classes[0] < 2);
        }
    }
}
