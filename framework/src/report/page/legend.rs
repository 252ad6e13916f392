//! What the colours of label maps stand for.

use maud::{Markup, html};

use crate::report::label_map::css_color;

/// A legend of more classes is folded away.
const MOST_CLASSES: usize = 32;

/// The colours of the classes of pixels with their names; nothing without any.
pub(super) fn legend(names: &[String]) -> Markup {
    let list = html! {
        ul.classes aria-label="Classes" {
            @for (name, class) in names.iter().zip(0..=u8::MAX) { li { (swatch(&css_color(class))) (name) } }
        }
    };
    html! {
        @if names.len() > MOST_CLASSES {
            details { summary { (names.len()) " classes" } (list) }
        } @else if !names.is_empty() {
            (list)
        }
    }
}

/// A small area of a colour.
pub(super) fn swatch(color: &str) -> Markup {
    html! { span.swatch style={ "background:" (color) } {} }
}
