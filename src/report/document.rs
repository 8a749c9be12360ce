//! What a report is made of, before it is set.

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its heading.
    pub title: String,
    /// Its parts, in order.
    pub sections: Vec<Section>,
}

/// A part with a heading.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// What stands under it.
    pub blocks: Vec<Block>,
}

/// Something that is set in one way. Texts are plain: what is special in Markdown or HTML is escaped.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Names and what they are.
    Facts(Vec<(&'static str, String)>),
    /// A list.
    List(Vec<String>),
    /// Things to do, and whether they are done.
    Tasks(Vec<(bool, String)>),
    /// A table: its header, its rows.
    Table(Vec<&'static str>, Vec<Vec<String>>),
    /// A picture.
    Chart {
        /// What it shows.
        title: String,
        /// The picture, as SVG.
        svg: String,
        /// The same in characters, where no picture can be: a line for each curve.
        lines: Vec<String>,
    },
}
