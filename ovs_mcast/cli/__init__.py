"""What all commands share: exit statuses, output, and the options that name an overlay."""
