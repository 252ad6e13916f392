//! The program as its users see it. One file per subject; one test program, because it links once.

#![allow(clippy::unwrap_used, clippy::panic)]

mod ablations;
mod accumulation;
mod bad_input;
mod before_a_run;
mod bench;
mod browse;
mod command_line;
mod complementary_masks;
mod completion;
mod damage;
mod data_on_disk;
mod detection;
mod detection_golden;
mod device_budget;
mod docs;
mod export;
mod faults;
mod finetune_golden;
mod finetuning;
mod fuzz;
mod golden;
mod inference;
mod mistakes;
mod nearest_neighbours;
mod new;
mod objects;
mod operations;
mod padding;
mod plugin;
mod predict_folder;
mod pretrain_golden;
#[cfg(feature = "mpi")]
mod processes;
mod registry;
mod report;
mod resume;
mod run_directory;
mod runs;
mod schema;
mod segmentation;
mod segmentation_golden;
mod story;
mod support;
mod sweep;
mod sweep_mistakes;
mod table;
mod training_options;
mod transforms_golden;
mod weights_of_others;

use convmae_tests as _;
