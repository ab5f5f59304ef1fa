// The messages between the page and the server about tables, and the state of the page. For the type checker alone.

/** Orders rows by a column, counted from 0. */
export interface Sort {
  column: number;
  desc: boolean;
  /** Whether numbers within text compare by value; absent otherwise. */
  natural?: boolean;
}

/** How a cell is compared with a value. */
export type Op = 'contains' | 'equals' | 'not' | '<' | '<=' | '>' | '>=' | 'between' | 'in' | 'same' | 'empty' | 'regex';

/** A condition on the cells of a column. */
export interface Filter {
  column: number;
  op: Op;
  /** Two values for `between`, some for `in`, as a list or in one text with commas. */
  value: string | string[];
}

/** A measure of the rows of a group; without a column, their number. */
export interface Measure {
  column?: number;
  fn: 'count' | 'sum' | 'mean' | 'min' | 'max' | 'distinct';
}

/** The columns to group by, the measures of each group, and the chart that shows them. */
export interface Group {
  by: number[];
  measures: Measure[];
  chart?: 'bar' | 'line';
}

/** Selection and order of the rows. */
export interface Query {
  sort: Sort[];
  filter: Filter[];
  search: string;
  /** Whether the search finds letters with other accents. */
  ignore_accents?: boolean;
  /** Absent or null: the rows of the file. */
  group?: Group | null;
}

/** The place in an address: a query and a page, counted from 1. */
export interface Place extends Query {
  page: number;
}

/** The dialect of a file. In a request, absent fields stay unchanged, and the server guesses null. */
export interface Dialect {
  delimiter: string;
  quote: string;
  escape: string;
  /** Whether spaces before a cell are removed. */
  skip_initial_space: boolean;
  /** Number of skipped lines above the header. */
  skip: number;
  header: boolean;
  encoding: string;
  format: 'text' | 'json' | 'xlsx' | 'parquet';
  /** Whether the encoding is a guess by likelihood. */
  guessed: boolean;
  /** Whether some bytes are invalid in it. */
  lossy: boolean;
  /** Whether the file ends within quotes. */
  open_quote: boolean;
}

/** The columns that rows have: of all columns of the table, `count` ones from the column `from`. */
export interface Window {
  from: number;
  count: number;
  total: number;
}

/** Rows, with the cells and rows that are not shown whole. */
export interface Rows {
  /** The number of the first, counted from 0. */
  from: number;
  data: string[][];
  /** Cells that are cut: row and column in `data`, and how many characters the cell has. */
  cut?: [number, number, number][];
  /** Rows of which not all cells are shown: row in `data`, and how many cells it has. */
  wide?: [number, number][];
  /** Absent: the rows are whole. */
  columns?: Window | undefined;
  /** The names of these columns. */
  header?: string[] | null;
  version?: number;
  /** Whether they are rows of the private view. */
  private?: boolean;
}

/** The arrangement of columns. Columns count from 0. */
export interface Columns {
  /** The columns that come first; the others follow in the order of the file. */
  order: number[];
  hidden: number[];
  /** How many of the columns do not scroll. */
  frozen: number;
  /** In pixels, by column. */
  widths: Record<string, number>;
}

/** The cursor of a person, in rows of the shared view, and the other corner of the selection. */
export interface Cursor {
  row: number;
  column: number;
  to_row: number;
  to_column: number;
}

/** A viewer. */
export interface Person {
  id: string;
  name: string;
  /** `#rrggbb` */
  color: string;
  owner: boolean;
  cursor: Cursor | null;
  /** Whether the person browses alone. */
  private: boolean;
}

/** The author of a change. */
export interface Author {
  id: string | null;
  name: string | null;
  by: 'viewer' | 'api' | 'cli' | 'append' | 'node';
}

/** The shared view of a table. */
export interface View extends Query, Omit<Rows, 'from' | 'columns' | 'header' | 'version' | 'private'> {
  uuid: string;
  /** Counted from 1. */
  page_no: number;
  /** How many rows the view pages through. */
  total_number: number;
  page_size: number;
  header: string[] | null;
  name: string;
  /** Of the file, in bytes. */
  size: number;
  loading: boolean;
  viewers: number;
  /** Grows with every change. */
  version: number;
  /** Null while there is no file. */
  dialect: Dialect | null;
  /** How many rows have more or fewer cells than the others. */
  ragged: number;
  /** The sheets of a workbook, and the one that is shown. */
  sheets?: string[];
  sheet?: string;
  /** The types set by viewers or declared by the file, by column number, such as `date:d/m/Y`. */
  types: Record<string, string>;
  /** The columns that `data` and `header` have, in a view of a wide table. */
  columns_from?: number;
  columns_count?: number;
  columns_total?: number;
  /** Null: as in the file; absent: the server stores no arrangement. */
  columns?: Columns | null;
  /** The names of the columns that identify a row. */
  key?: string[];
  /** The number of compactions of the log of a table with a key. */
  compacted?: number;
  changed_by?: Author | null;
  /** How many changes can be undone and redone. */
  history?: { undo: number; redo: number };
  /** The replaced file, which can be restored until this time, in seconds since 1970. */
  previous?: { name: string; until: number } | null;
}

/** Operations that are locked to the owner. */
export interface Lock {
  uploads: boolean;
  view: boolean;
}

/** Facts on a column. */
export interface ColumnFacts {
  /** Null without a header; absent from older servers. */
  name?: string | null;
  type: string;
  /** The format of its numbers or dates: the decimal mark, or `d/m/Y`. */
  format: string | null;
  empty: number;
  distinct: number;
  /** Whether `distinct` is exact. */
  exact: boolean;
  min: string | null;
  max: string | null;
  mean: number | null;
  /** How many numbers fall into each of some bins of the same width. */
  histogram: number[];
  /** The most frequent values and their counts, if they were counted. */
  top: [string, number][];
}

/** An upload so far; or, as a part of 1, the making of a view. */
export interface Progress {
  received?: number;
  size?: number | null;
  rows?: number;
  view?: number;
}

/** A message of the server on a table's connection. */
export interface Message extends Partial<Omit<View, 'private'>> {
  progress?: Progress;
  owner?: string;
  /** The permissions granted for a secret or a token. */
  rights?: { owner?: boolean; upload?: boolean };
  rows?: Rows;
  facts?: { columns: ColumnFacts[] };
  lock?: Lock;
  error?: { code: number; message: string };
  people?: Person[];
  you?: string;
  person?: Person;
  person_left?: string;
  private?: View | null;
  cells?: { row: number; column: number; value: string }[];
}

/** A table that was opened in this browser. */
export interface Recent {
  uuid: string;
  name: string;
  rows: number;
  /** Time of the last view, in milliseconds since 1970. */
  at: number;
  /** The owner's secret, where this browser has it. */
  owner?: string;
  /** Whether it was opened on the aliases of the article's page. */
  parser?: boolean;
}
