"""Secrets that AWS keeps or makes: `${aws-sm:…}`, `${aws-ssm:…}` and `${aws-iam:}`, each in a module of its own."""
