//! Names the commit that the components are built from.

fn main() {
    convmae_commit::emit();
}
