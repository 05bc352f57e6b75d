"""The exercises of the course, a module for each chapter; names are unique."""

from ldm_tutorial.teach.task import Exercise
from ldm_tutorial.teach.tasks import chapter1, chapter2, chapter3, chapter4

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for chapter in (chapter1, chapter2, chapter3, chapter4)
    for exercise in chapter.EXERCISES
}
