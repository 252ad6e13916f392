//! What every page has: a head, a header with links to the sections, the sections, a footer.

use std::time::SystemTime;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::utc::rfc3339;

/// A part of a page under a heading.
pub(crate) struct Section {
    /// What links to it name.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) content: Markup,
}

/// A page that needs nothing but itself.
pub(crate) struct Page<'a> {
    pub(crate) title: &'a str,
    /// What stands above the links to the sections.
    pub(crate) header: Markup,
    pub(crate) sections: Vec<Section>,
    /// Version of the program that wrote it.
    pub(crate) version: &'a str,
    /// Style besides that of every page.
    pub(crate) style: &'a str,
    /// What makes it interactive, run when the page is there. It is readable without.
    pub(crate) script: Option<&'a str>,
}

/// The browser fetches nothing, whatever the page says.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

impl Page<'_> {
    /// The page as HTML.
    pub(crate) fn render(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    title { (self.title) " · convmae" }
                    style { (PreEscaped(include_str!("style.css"))) (PreEscaped(self.style)) }
                }
                body {
                    a.skip href="#content" { "Skip to the content" }
                    header { (self.header) (self.links()) }
                    main #content tabindex="-1" {
                        @for section in &self.sections {
                            section id=(section.id) {
                                h2 { (section.title) }
                                (section.content)
                            }
                        }
                    }
                    footer {
                        p { "Written " (rfc3339(SystemTime::now())) " by convmae " (self.version) "." }
                    }
                    @if let Some(script) = self.script { script { (PreEscaped(script)) } }
                }
            }
        };
        page.into_string()
    }

    fn links(&self) -> Markup {
        html! {
            nav aria-label="Sections" {
                @for section in &self.sections {
                    a href={ "#" (section.id) } { (section.title) }
                }
            }
        }
    }
}
