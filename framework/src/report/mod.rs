//! Run directories: metrics, summaries, and the HTML report.
