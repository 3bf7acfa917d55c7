"""What a task of your own is made with: tables of text and labels, and the function that checks and cuts them."""

from bench.tasks.assemble import Columns as Columns
from bench.tasks.assemble import assemble as assemble
from bench.tasks.tables import TextTable as TextTable
from bench.tasks.tables import read_table as read_table
