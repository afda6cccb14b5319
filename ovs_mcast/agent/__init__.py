"""The long-lived process that keeps an overlay applied: events lead to reconciles."""
