"""The wire, the words and the accounting: no input, no output, no clock."""
