"""Git repositories, by git itself."""
