//! `recipes/story.yaml`: from pretraining to every task, by one command.

use std::fs;

use convmae_framework::sweep::Sweep;

use crate::support::{Folder, recipe, stderr, stdout};

#[test]
fn the_story_pretrains_and_does_every_task_with_and_without_it() {
    let plan = Sweep::load(&recipe("story.yaml")).unwrap().expand(None, &[]).unwrap();
    let of = |stage: &str| plan.runs.iter().filter(|run| run.stage == stage).collect::<Vec<_>>();
    assert_eq!((plan.runs.len(), of("pretrain").len()), (2 + 4 * 4, 2));
    for stage in ["finetune", "probe", "segment", "detect"] {
        let starts: Vec<_> = of(stage).into_iter().map(|run| (run.name.as_str(), run.upstream)).collect();
        let name = |start: &str, seed: u64| format!("{stage}/{start}_seed-{seed}");
        let expected = [
            ("pretrained", 0, Some(0)),
            ("pretrained", 1, Some(1)),
            ("scratch", 0, None),
            ("scratch", 1, None),
        ]
        .map(|(start, seed, upstream)| (name(start, seed), upstream));
        assert_eq!(starts, expected.each_ref().map(|(name, upstream)| (name.as_str(), *upstream)));
    }
}

/// Its steps are few and its batches small, else it is as it is shipped.
#[test]
fn the_story_in_small_leaves_a_table_and_a_report() {
    let folder = Folder::new();
    let stages = ["pretrain", "finetune", "probe", "segment", "detect"];
    let sets = [
        "train.length=1 iteration",
        "schedule.warmup=0 iterations",
        "data.train.batch_size=2",
        "data.val.dataset.length=2",
        "data.val.batch_size=2",
        "evaluate.pictures=1",
    ];
    let sets: Vec<String> =
        stages.iter().flat_map(|stage| sets.map(|set| format!("--set={stage}.{set}"))).collect();
    let path = recipe("story.yaml");
    let args = ["sweep", path.to_str().unwrap(), "--jobs", "2"];
    let made = stderr(&folder.succeeds(args.into_iter().chain(sets.iter().map(String::as_str))));
    assert!(
        made.contains("18 of 18 runs finished") && made.contains("report: runs/story/report.html"),
        "{made}"
    );

    let page = fs::read_to_string(folder.path("runs/story/report.html")).unwrap();
    for variant in [
        "quickstart",
        "convmae_synthetic_finetune, init_from quickstart",
        "convmae_synthetic_linprobe, init_from null",
        "upernet_synthetic, init_from quickstart",
        "mask_rcnn_synthetic, init_from null",
    ] {
        assert!(page.contains(&format!("data-value=\"{variant}\"")), "{variant}");
    }

    // The runs are shorter than those of the table, which says so of every cell.
    let table = recipe("tables/story.yaml");
    let table = stdout(&folder.succeeds(["table", table.to_str().unwrap()]));
    for start in ["pretrained", "scratch"] {
        for stage in &stages[1..] {
            let note = format!("`runs/story/{stage}/{start}_seed-0` is of another recipe and not shown");
            assert!(table.contains(&note), "{note}: {table}");
        }
    }
    // What starts from scratch has no pretraining, which stands in the chain before it.
    let columns = "columns: [{ name: Start, from: label }, { name: Epochs, from: recipe.train.length, stage: pretrain, digits: 0 }]";
    let row = |start: &str| {
        format!("- {{ label: {start}, sweep: {}, where: {{ variant: {start} }} }}\n", path.display())
    };
    let rows = [row("pretrained"), row("scratch")].concat();
    fs::write(folder.path("table.yaml"), format!("title: Start\n{columns}\nrows:\n{rows}")).unwrap();
    let table = stdout(&folder.succeeds(["table", "table.yaml", "--format", "csv"]));
    assert!(table.contains("\npretrained,4") && table.contains("\nscratch,\n"), "{table}");
}
