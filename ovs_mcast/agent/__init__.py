"""The long-lived process that keeps an overlay true: events to reconcile."""
