//! Charts as a page of PDF: what plotters draws, in the operators of the format. Text is in Helvetica, which every reader
//! brings along.

use std::convert::Infallible;

use pdf_writer::types::{LineCapStyle, LineJoinStyle};
use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
};

/// Points for a unit of plotters: figures as wide as a column of text.
const SCALE: f32 = 0.35;
/// Advance widths of Helvetica from space to tilde, in thousandths of its size (Adobe Font Metrics 4.1).
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];
/// That of letters beyond, roughly.
const OTHER_WIDTH: u16 = 556;

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// A page under construction; presented, it is a whole file.
pub(super) struct PdfPage<'f> {
    file: &'f mut Vec<u8>,
    size: (u32, u32),
    content: Content,
    /// Opacities that occur, each a graphics state.
    alphas: Vec<f64>,
}

impl<'f> PdfPage<'f> {
    /// A page of so many units, to be written to `file`.
    pub(super) fn new(file: &'f mut Vec<u8>, size: (u32, u32)) -> Self {
        let mut content = Content::new();
        // Down as plotters counts.
        content.transform([SCALE, 0.0, 0.0, -SCALE, 0.0, SCALE * size.1 as f32]);
        content.set_line_join(LineJoinStyle::RoundJoin).set_line_cap(LineCapStyle::RoundCap);
        Self { file, size, content, alphas: Vec::new() }
    }

    fn color(&mut self, color: BackendColor) {
        let at = self.alphas.iter().position(|alpha| *alpha == color.alpha).unwrap_or_else(|| {
            self.alphas.push(color.alpha);
            self.alphas.len() - 1
        });
        self.content.set_parameters(Name(state_name(at).as_bytes()));
        let [red, green, blue] = <[u8; 3]>::from(color.rgb).map(|channel| f32::from(channel) / 255.0);
        self.content.set_fill_rgb(red, green, blue).set_stroke_rgb(red, green, blue);
    }

    fn path(&mut self, points: impl IntoIterator<Item = BackendCoord>) {
        for (at, (x, y)) in points.into_iter().enumerate() {
            match at {
                0 => self.content.move_to(x as f32, y as f32),
                _ => self.content.line_to(x as f32, y as f32),
            };
        }
    }

    fn stroke<S: BackendStyle>(&mut self, points: impl IntoIterator<Item = BackendCoord>, style: &S) {
        if style.color().alpha > 0.0 {
            self.color(style.color());
            self.content.set_line_width(style.stroke_width() as f32);
            self.path(points);
            self.content.stroke();
        }
    }
}

impl DrawingBackend for PdfPage<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        let [catalog, pages, page, font, content] = [1, 2, 3, 4, 5].map(Ref::new);
        let state = |at: usize| Ref::new(6 + at as i32);
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(pages);
        pdf.pages(pages).kids([page]).count(1);
        let mut of_page = pdf.page(page);
        let (width, height) = self.size;
        of_page.media_box(Rect::new(0.0, 0.0, SCALE * width as f32, SCALE * height as f32));
        of_page.parent(pages).contents(content);
        let mut resources = of_page.resources();
        resources.fonts().pair(FONT, font);
        let mut states = resources.ext_g_states();
        for at in 0..self.alphas.len() {
            states.pair(Name(state_name(at).as_bytes()), state(at));
        }
        states.finish();
        resources.finish();
        of_page.finish();
        pdf.type1_font(font).base_font(Name(b"Helvetica")).encoding_predefined(Name(b"WinAnsiEncoding"));
        for (at, alpha) in self.alphas.iter().enumerate() {
            pdf.ext_graphics(state(at)).non_stroking_alpha(*alpha as f32).stroking_alpha(*alpha as f32);
        }
        let drawn = std::mem::replace(&mut self.content, Content::new()).finish();
        pdf.stream(content, &drawn);
        *self.file = pdf.finish();
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.stroke([from, to], style);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.stroke(path, style);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
        match fill {
            true => self.fill_polygon(corners, style),
            false => self.draw_path(corners.into_iter().chain([(left, top)]), style),
        }
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            self.color(style.color());
            self.path(corners);
            self.content.close_path().fill_nonzero();
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        /// Where the handles of the quarter of a circle are.
        const HANDLE: f32 = 0.552_285;
        if style.color().alpha == 0.0 {
            return Ok(());
        }
        self.color(style.color());
        let (x, y, r) = (x as f32, y as f32, radius as f32);
        self.content.move_to(x + r, y);
        for (dx, dy) in [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)] {
            // A quarter turn on.
            let (ex, ey): (f32, f32) = (-dy, dx);
            let at = |along: f32, across: f32| {
                (x + r * (along * dx + across * ex), y + r * (along * dy + across * ey))
            };
            let ((x1, y1), (x2, y2), (x3, y3)) = (at(1.0, HANDLE), at(HANDLE, 1.0), at(0.0, 1.0));
            self.content.cubic_to(x1, y1, x2, y2, x3, y3);
        }
        match fill {
            true => self.content.fill_nonzero(),
            false => self.content.set_line_width(style.stroke_width() as f32).stroke(),
        };
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        if style.color().alpha == 0.0 {
            return Ok(());
        }
        self.color(style.color());
        let size = font_size(style);
        let across = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -0.5,
            HPos::Right => -1.0,
        } * width(text, size);
        let up = match style.anchor().v_pos {
            VPos::Top => -0.76,
            VPos::Center => -0.35,
            VPos::Bottom => 0.2,
        } * size;
        // Directions of the line and of what is above it; the page counts down.
        let ([a, b], [c, d]) = match style.transform() {
            FontTransform::None => ([1.0, 0.0], [0.0, -1.0]),
            FontTransform::Rotate90 => ([0.0, 1.0], [1.0, 0.0]),
            FontTransform::Rotate180 => ([-1.0, 0.0], [0.0, 1.0]),
            FontTransform::Rotate270 => ([0.0, -1.0], [-1.0, 0.0]),
        };
        let (x, y) = (x as f32 + across * a + up * c, y as f32 + across * b + up * d);
        self.content.begin_text().set_font(FONT, size).set_text_matrix([a, b, c, d, x, y]);
        self.content.show(Str(&encoded(text))).end_text();
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let size = font_size(style);
        Ok((width(text, size).ceil() as u32, size.ceil() as u32))
    }
}

const FONT: Name<'_> = Name(b"F");

fn state_name(at: usize) -> String {
    format!("G{at}")
}

/// As large as plotters writes it into an SVG.
fn font_size(style: &impl BackendTextStyle) -> f32 {
    (style.size() / 1.24) as f32
}

fn width(text: &str, size: f32) -> f32 {
    let of = |letter: char| {
        let at = (letter as usize).checked_sub(usize::from(b' '));
        f32::from(at.and_then(|at| WIDTHS.get(at)).copied().unwrap_or(OTHER_WIDTH))
    };
    text.chars().map(of).sum::<f32>() * size / 1000.0
}

/// A text in the encoding of Windows: what that does not have is `?`.
fn encoded(text: &str) -> Vec<u8> {
    let byte = |letter: char| match letter {
        '–' => 0x96,
        '…' => 0x85,
        ' '..='~' | '\u{a0}'..='\u{ff}' => letter as u8,
        _ => b'?',
    };
    text.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use plotters::prelude::*;
    use plotters::style::text_anchor::Pos;

    use super::*;

    #[test]
    fn a_page_has_what_was_drawn_and_an_index_that_leads_to_every_object() {
        let mut file = Vec::new();
        let root = PdfPage::new(&mut file, (200, 100)).into_drawing_area();
        root.draw(&PathElement::new([(0, 0), (10, 20)], ShapeStyle::from(RED).stroke_width(3))).unwrap();
        root.draw(&Polygon::new([(0, 0), (10, 0), (10, 10)], BLUE.mix(0.2).filled())).unwrap();
        root.draw(&Circle::new((50, 50), 5, GREEN.filled())).unwrap();
        let right = ("sans-serif", 12.4).into_text_style(&root).pos(Pos::new(HPos::Right, VPos::Bottom));
        root.draw(&Text::new("a (b) ±µ→", (100, 50), right)).unwrap();
        root.present().unwrap();
        drop(root);
        let text: String = file.iter().map(|byte| char::from(*byte)).collect();
        assert!(text.starts_with("%PDF-1.") && text.trim_end().ends_with("%%EOF"));
        for part in [
            "/MediaBox [0 0 70 35]",
            "0 0 m\n10 20 l\nS",
            "/ca 0.2",
            "0 0 m\n10 0 l\n10 10 l\nh\nf",
            "/BaseFont /Helvetica",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Beyond ASCII a text is in hexadecimal.
        assert!(text.to_lowercase().contains("<612028622920b1b53f>"), "{text}");
        // The cross-reference table names where each object begins.
        let number = |text: &str| text.split_whitespace().next().unwrap().parse::<usize>().unwrap();
        let start = number(text.rsplit("startxref").next().unwrap());
        let table = String::from_utf8_lossy(&file[start..]);
        let entries: Vec<_> = table.lines().filter(|line| line.trim_end().ends_with(" n")).collect();
        assert!(entries.len() > 5, "{table}");
        for (at, entry) in entries.into_iter().enumerate() {
            let object = format!("{} 0 obj", at + 1);
            assert!(file[number(entry)..].starts_with(object.as_bytes()), "{entry}");
        }
    }

    #[test]
    fn texts_are_as_wide_as_helvetica_says() {
        assert_eq!(width("0.5", 10.0), 10.0 * (556.0 + 278.0 + 556.0) / 1000.0);
        assert_eq!(WIDTHS[usize::from(b'W' - b' ')], 944);
        assert_eq!(WIDTHS[usize::from(b'~' - b' ')], 584);
    }
}
