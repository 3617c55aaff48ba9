//! The page: one file of HTML that asks for nothing outside itself. Text of users is escaped for where it stands, and the page's policy
//! runs no script but ours, by their checksums.
use std::fmt::Write;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pipelines::design::survey::{Ranges, Survey};
use crate::pipelines::viewer;

/// What a page is made of.
pub struct Page<'a> {
    /// The run.
    pub survey: &'a Survey,
    /// The folder of the run.
    pub first: &'a Path,
    /// Filters with the designs that pass them; `None`: there were none.
    pub counts: Option<Vec<(String, usize)>>,
    /// Designs that pass every filter.
    pub n_passing: Option<usize>,
    /// The plots that could be drawn.
    pub plots: &'a [Plot],
    /// What the script reads.
    pub data: Value,
}

/// A plot.
pub struct Plot {
    /// Of its file.
    pub name: &'static str,
    /// What it shows.
    pub alt: &'static str,
    /// The file.
    pub png: Vec<u8>,
}

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Pictures of more pixels have a row of their own.
const WIDE: u32 = 1600;
/// Failed samples that are named.
const N_FAILED: usize = 50;

impl Page<'_> {
    /// The file.
    pub fn html(&self) -> String {
        let settings = &self.survey.settings;
        let own = format!("{}\n{SCRIPT}", viewer::SCRIPT);
        let policy = format!("script-src {} {}", checksum(viewer::LIBRARY), checksum(&own));
        let task = escaped(&settings.task);
        fill(TEMPLATE, &|name| match name {
            "policy" => policy.clone(),
            "task" => task.clone(),
            "style" => STYLE.to_owned(),
            "summary" => escaped(&self.summary()),
            "tiles" => self.tiles(),
            "rest" => self.rest(),
            "settings" => self.settings(),
            "plots" => self.plots(),
            "licence" => in_script(&Value::from(viewer::LICENCE)),
            "data" => in_script(&self.data),
            "library" => viewer::LIBRARY.to_owned(),
            "script" => own.clone(),
            _ => String::new(),
        })
    }

    fn summary(&self) -> String {
        let (done, expected) = (self.survey.done.len(), self.survey.n_expected());
        match self.n_passing {
            Some(passing) => format!("{done} of {expected} samples are done, {passing} designs pass all filters."),
            None => format!("{done} of {expected} samples are done; they were not filtered."),
        }
    }

    fn tiles(&self) -> String {
        let survey = self.survey;
        let (done, expected) = (survey.done.len(), survey.n_expected());
        let mut all = vec![("expected".to_owned(), expected, None), ("done".to_owned(), done, None)];
        if let Some(n) = self.n_passing {
            all.push(("pass all filters".to_owned(), n, Some(done)));
        }
        let filters = self.counts.iter().flatten();
        all.extend(filters.map(|(name, count)| (format!("pass {name}"), *count, Some(done))));
        all.push(("failed".to_owned(), survey.failed.len(), None));
        all.push(("missing".to_owned(), survey.missing.len(), None));
        let tile = |(name, count, of): &(String, usize, Option<usize>)| {
            let share =
                of.filter(|of| *of > 0).map(|of| format!(" <small>{:.1} %</small>", 100. * *count as f64 / of as f64));
            format!("<div><dt>{}</dt><dd>{count}{}</dd></div>\n", escaped(name), share.unwrap_or_default())
        };
        all.iter().map(tile).collect()
    }

    /// What failed and what is missing, with the command that goes on; nothing of a whole run.
    fn rest(&self) -> String {
        let survey = self.survey;
        let mut html = String::new();
        if survey.failed.is_empty() && survey.missing.is_empty() {
            return html;
        }
        let inside = format!("{}/", self.first.display());
        html += "<section class=\"rest\">\n<h2>Not done</h2>\n<ul>\n";
        for (seed, stage, numbers) in survey.missing_by_stage() {
            let item = format!("seed {seed}: {stage} of samples {}", Ranges(&numbers));
            html += &format!("<li>{}</li>\n", escaped(&item));
        }
        for (sample, stage, reason) in survey.failed.iter().take(N_FAILED) {
            let (seed, number) = (sample.place.seed(), sample.number);
            let item = format!("seed {seed}, sample {number} failed: {stage}: {}", reason.replace(&inside, ""));
            html += &format!("<li>{}</li>\n", escaped(&item));
        }
        if survey.failed.len() > N_FAILED {
            html += &format!("<li>and {} more that failed</li>\n", survey.failed.len() - N_FAILED);
        }
        html += "</ul>\n<p>This command makes what is missing and tries again what failed:</p>\n";
        html += &format!("<pre>{}</pre>\n</section>\n", escaped(&survey.settings.command));
        html
    }

    fn settings(&self) -> String {
        let settings = &self.survey.settings;
        let seeds: Vec<String> = settings.seeds.iter().map(u32::to_string).collect();
        let mut html = row("task_name", &settings.task);
        html += &row("n_samples", &settings.n_sample.to_string());
        html += &row("seeds", &seeds.join(", "));
        let mut sections: Vec<(&String, &Value)> = settings.sections.iter().collect();
        sections.sort_by_key(|(name, _)| *name); // a run that was begun without filters has them in another order
        for (name, section) in sections {
            html += &format!("<tr><th colspan=\"2\">{}</th></tr>\n", escaped(name));
            for (key, value) in section.as_object().into_iter().flatten() {
                html += &row(key, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
        html
    }

    fn plots(&self) -> String {
        let figure = |plot: &Plot| {
            // A picture of two panels; the width stands in the file's header.
            let width =
                plot.png.get(16..20).map_or(0, |bytes| bytes.iter().fold(0, |sum, b| sum * 256 + u32::from(*b)));
            let wide = if width > WIDE { " class=\"wide\"" } else { "" };
            let (name, alt, png) = (escaped(plot.name), escaped(plot.alt), BASE64_STANDARD.encode(&plot.png));
            format!(
                "<figure{wide}><img alt=\"{alt}\" src=\"data:image/png;base64,{png}\"><figcaption><a href=\"{name}\">{name}</a></figcaption></figure>\n"
            )
        };
        if self.plots.is_empty() {
            return String::new();
        }
        let figures: String = self.plots.iter().map(figure).collect();
        format!("<section>\n<h2>Plots</h2>\n<div class=\"plots\">\n{figures}</div>\n</section>\n")
    }
}

fn row(key: &str, value: &str) -> String {
    format!("<tr><td>{}</td><td>{}</td></tr>\n", escaped(key), escaped(value))
}

/// Text for the inside of elements and of attributes in quotes.
fn escaped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => made += "&amp;",
            '<' => made += "&lt;",
            '>' => made += "&gt;",
            '"' => made += "&quot;",
            '\'' => made += "&#39;",
            c if c.is_control() && c != '\n' && c != '\t' => made.push(char::REPLACEMENT_CHARACTER),
            c => made.push(c),
        }
    }
    made
}

/// JSON for the inside of a script element: no character that could end it or begin a comment.
fn in_script(value: &Value) -> String {
    let mut made = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(made, "\\u{:04x}", c as u32).expect("a string takes what is written");
            }
            c => made.push(c),
        }
    }
    made
}

/// A script by its checksum, as policies name it.
fn checksum(script: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)))
}

/// A template with values in the places of `{{name}}`; what is in a value stays as it is.
fn fill(template: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut parts = template.split("{{");
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or(("", part));
        made += &value(name);
        made += rest;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_ends_nothing() {
        assert_eq!(escaped("<a b=\"c\" d='e'>&\u{0}"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\u{fffd}");
        let json = in_script(&json!({"</script>": "<!--\u{2028}&amp;"}));
        assert_eq!(json, r#"{"\u003c/script\u003e":"\u003c!--\u2028\u0026amp;"}"#);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!({"</script>": "<!--\u{2028}&amp;"}));
    }

    #[test]
    fn values_are_not_looked_into() {
        let value = |name: &str| if name == "a" { "{{b}}".to_owned() } else { "B".to_owned() };
        assert_eq!(fill("x{{a}}-{{b}}y", &value), "x{{b}}-By");
    }

    #[test]
    fn the_template_has_a_place_for_everything() {
        for name in [
            "policy", "task", "style", "summary", "tiles", "rest", "settings", "plots", "licence", "data", "library",
            "script",
        ] {
            assert!(TEMPLATE.contains(&format!("{{{{{name}}}}}")), "{name}");
        }
        assert!(["innerHTML", "document.write", "eval("].iter().all(|word| !SCRIPT.contains(word)));
        assert!(!SCRIPT.to_ascii_lowercase().contains("</script"));
    }
}
