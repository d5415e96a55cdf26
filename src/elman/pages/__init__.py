"""What a person looks at outside the terminal: self-contained HTML pages, and plots."""
