//! A colour and a dash for every entry of the legend: eight colours that stay apart for the colour-blind,
//! each in four strokes.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::plot::RGBColor;

/// On white, then on black. After Okabe and Ito, "Color Universal Design", the light ones darkened to be read
/// on white.
const HUES: [(u32, u32); 8] = [
    (0x00_72b2, 0x5a_a9e6),
    (0xd5_5e00, 0xf0_8a4b),
    (0x00_9e73, 0x3c_c79a),
    (0xb5_578f, 0xe3_9ac6),
    (0xb5_7b00, 0xf2_c14e),
    (0x3a_9bd4, 0x9a_d4f5),
    (0x4d_4d4d, 0xbd_bdbd),
    (0x88_2255, 0xb3_9ddb),
];

/// Lengths of strokes and gaps, in units of the charts.
const DASHES: [&str; 4] = ["none", "16 9", "4 7", "18 7 4 7"];

/// The colour by which the style sheet knows the lines of an entry of the legend. It stands for a dash, too,
/// so no two entries have the same: they differ in the blue, invisibly.
pub(super) fn key(entry: usize) -> RGBColor {
    let (color, _) = HUES[entry % HUES.len()];
    let [_, red, green, blue] = color.to_be_bytes();
    let round = (entry / HUES.len()) as u8;
    RGBColor(red, green, blue ^ round)
}

/// The rules for the lines and samples of every entry.
pub(super) fn style(entries: usize) -> String {
    let variables = |on_dark: bool| {
        let colors = HUES.iter().map(|&(light, dark)| if on_dark { dark } else { light });
        colors.enumerate().fold(String::new(), |mut rules, (hue, color)| {
            let _ = write!(rules, "--hue-{hue}:#{color:06x};");
            rules
        })
    };
    let (light, dark) = (variables(false), variables(true));
    let mut rules = format!(
        ":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}@media print{{:root{{{light}}}}}"
    );
    for entry in 0..entries {
        let RGBColor(red, green, blue) = key(entry);
        let (hue, dash) = (entry % HUES.len(), DASHES[entry / HUES.len() % DASHES.len()]);
        let _ = write!(
            rules,
            ".entry-{entry},.plot [stroke=\"#{red:02X}{green:02X}{blue:02X}\"]{{stroke:var(--hue-{hue});stroke-dasharray:{dash}}}\
             .plot .band.entry-{entry}{{fill:var(--hue-{hue});stroke:none}}\
             .plot [fill=\"#{red:02X}{green:02X}{blue:02X}\"]{{fill:var(--hue-{hue})}}"
        );
    }
    rules
}

/// A stroke as the lines of an entry have it.
pub(super) fn sample(entry: usize) -> Markup {
    html! {
        svg.sample viewBox="0 0 56 12" aria-hidden="true" {
            line class=(format!("entry-{entry}")) x1="0" y1="6" x2="56" y2="6" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_entries_look_the_same_before_there_are_many() {
        let keys: HashSet<_> = (0..64)
            .map(|entry| {
                let RGBColor(r, g, b) = key(entry);
                (r, g, b)
            })
            .collect();
        assert_eq!(keys.len(), 64);
        let looks: HashSet<_> =
            (0..32).map(|entry| (entry % HUES.len(), entry / HUES.len() % DASHES.len())).collect();
        assert_eq!(looks.len(), 32);
    }
}
