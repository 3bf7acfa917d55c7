"""What the rows say: places and competitors, statistics, ranks, boards, claims."""
