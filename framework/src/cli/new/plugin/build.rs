//! Names the commit that the components are built from, in the `environment.json` of runs.

fn main() {
    convmae_commit::emit();
}
