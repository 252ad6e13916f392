//! Calls of other people's code that may panic on damaged input: decoders of images, readers of Parquet.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught, and told of by who catches it.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What a call returns. If it panics, nothing is printed of that.
///
/// # Errors
/// What the panic said.
pub fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                print(panic);
            }
        }));
    });
    let outer = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_GUARDED.set(outer);
    result.map_err(|panic| message(&*panic))
}

/// What a decoder makes of an image of some format.
///
/// # Errors
/// Why it refuses it; also that it panicked, as decoders do on a few of some hundred thousand damaged files.
pub(crate) fn decoded<T>(format: &str, decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match guarded(decode) {
        Ok(image) => image.map_err(|reason| readable(&reason)),
        Err(_) => Err(format!("damaged {format}: the decoder panicked")),
    }
}

/// The words of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

/// A message of the crate `png` without the insides of its types: `IHDR` for
/// `ChunkType { type: IHDR, critical: true, .. }`.
fn readable(message: &str) -> String {
    const BEFORE: &str = "ChunkType { type: ";
    let (mut readable, mut rest) = (String::new(), message);
    while let Some((text, chunk)) = rest.split_once(BEFORE) {
        let (name, after) = chunk.split_once(',').unwrap_or((chunk, ""));
        readable += text;
        readable += name;
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    readable + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(
            guarded(|| -> u8 { panic!("index {} out of range", 3) }),
            Err("index 3 out of range".into())
        );
        assert_eq!(
            decoded("PNG", || -> Result<(), _> { panic!("no") }),
            Err("damaged PNG: the decoder panicked".to_owned())
        );
    }

    #[test]
    fn a_guard_within_another_one_leaves_that_in_place() {
        let is_guarded = guarded(|| {
            let _ = guarded(|| panic!("inner"));
            IS_GUARDED.get()
        });
        assert_eq!((is_guarded, IS_GUARDED.get()), (Ok(true), false));
    }

    #[test]
    fn types_of_chunks_are_called_by_their_names() {
        let message = "Chunk length wrong: ChunkType { type: IHDR, critical: true, private: false }!";
        assert_eq!(readable(message), "Chunk length wrong: IHDR!");
        assert_eq!(readable("nothing"), "nothing");
    }
}
