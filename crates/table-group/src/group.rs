//! The settings of a grouped view, in the form of messages and records.

use serde::{Deserialize, Serialize};

/// The most columns to group by.
pub const MAX_BY: usize = 8;
/// The most measures.
pub const MAX_MEASURES: usize = 16;

/// The settings of a grouped view.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The columns whose cells the rows of a group have in common, counted from 0.
    pub by: Vec<usize>,
    /// The measures of each group; without any, the number of rows.
    #[serde(default)]
    pub measures: Vec<Measure>,
    /// The chart that shows the groups. It has no influence on the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<Chart>,
}

/// A measure of the rows of a group.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// The column, counted from 0; only [`Function::Count`] needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The function of its values.
    #[serde(rename = "fn")]
    pub function: Function,
}

/// A function of the values of a column.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// The number of values; without a column, of rows.
    Count,
    /// The sum of numbers.
    Sum,
    /// The arithmetic mean of numbers.
    Mean,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// The number of different values.
    Distinct,
}

/// A kind of chart.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// A bar for each group.
    Bar,
    /// A line through the groups.
    Line,
}

/// Settings that are invalid, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidGroup(pub String);

impl Function {
    /// Its name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Distinct => "distinct",
        }
    }

    /// Whether it needs numbers.
    pub const fn needs_numbers(self) -> bool {
        matches!(self, Self::Sum | Self::Mean)
    }
}

impl Group {
    /// Checks the settings, and adds the number of rows if they have no measure. Whether the columns exist depends on the
    /// file.
    ///
    /// # Errors
    /// No column or too many columns to group by, a column twice, too many measures, a measure without a column.
    pub fn checked(mut self) -> Result<Self, InvalidGroup> {
        if !(1..=MAX_BY).contains(&self.by.len()) {
            return Err(InvalidGroup(format!("by must have from 1 to {MAX_BY} columns")));
        }
        let twice = self.by.iter().enumerate().find(|(i, column)| self.by[..*i].contains(column));
        if let Some((_, column)) = twice {
            return Err(InvalidGroup(format!("by has column {column} twice")));
        }
        if self.measures.len() > MAX_MEASURES {
            return Err(InvalidGroup(format!("measures may have {MAX_MEASURES} entries")));
        }
        let lacks_column =
            |measure: &&Measure| measure.column.is_none() && measure.function != Function::Count;
        if let Some(measure) = self.measures.iter().find(lacks_column) {
            return Err(InvalidGroup(format!("{} needs a column", measure.function.as_str())));
        }
        if self.measures.is_empty() {
            self.measures.push(Measure { column: None, function: Function::Count });
        }
        Ok(self)
    }

    /// Whether other settings have the same rows; the charts may differ.
    pub fn same_rows(&self, other: &Self) -> bool {
        (&self.by, &self.measures) == (&other.by, &other.measures)
    }

    /// The number of columns of the grouped view.
    pub const fn width(&self) -> usize {
        self.by.len() + self.measures.len()
    }

    /// The columns of the table that the settings refer to.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.by.iter().copied().chain(self.measures.iter().filter_map(|measure| measure.column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_the_form_of_messages() {
        let read = |text: &str| serde_json::from_str::<Group>(text).expect(text).checked();
        let group = read(r#"{"by":[0],"measures":[{"column":3,"fn":"sum"}],"chart":"bar"}"#).expect("valid");
        assert_eq!((group.by.as_slice(), group.width(), group.chart), (&[0][..], 2, Some(Chart::Bar)));
        assert_eq!(
            serde_json::to_string(&group).expect("JSON"),
            r#"{"by":[0],"measures":[{"column":3,"fn":"sum"}],"chart":"bar"}"#
        );
        let rows = read(r#"{"by":[2,1]}"#).expect("valid");
        assert_eq!(rows.measures, [Measure { column: None, function: Function::Count }]);
        for (text, reason) in [
            (r#"{"by":[]}"#, "from 1 to 8 columns"),
            (r#"{"by":[0,1,2,3,4,5,6,7,8]}"#, "from 1 to 8 columns"),
            (r#"{"by":[1,2,1]}"#, "column 1 twice"),
            (r#"{"by":[1],"measures":[{"fn":"sum"}]}"#, "sum needs a column"),
        ] {
            assert!(read(text).expect_err(text).0.contains(reason), "{text}");
        }
        for text in
            [r#"{"by":[0],"measures":[{"fn":"median"}]}"#, r#"{"by":[0],"chart":"pie"}"#, r#"{"b":[0]}"#]
        {
            serde_json::from_str::<Group>(text).expect_err(text);
        }
    }
}
