"""Looking at a model: a scene of plain arrays, and the window, pictures and page that show it."""
