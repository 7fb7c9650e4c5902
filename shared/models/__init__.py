"""Network parts that several families assemble: blocks, backbones, necks and heads."""
