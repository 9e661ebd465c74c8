"""The report of a backtest: one page of HTML that contains everything, to read and to print."""
